"""Import of JSON Lines: files are read and checked line by line, and written in one transaction or not at all.

A service defines its lines (`importer.LineImporter`); everything else is here. A problem names its file, line and field, and
then nothing is written.
"""
