"""Import of JSON Lines: files are read and checked line by line, and written in one transaction or not at all.

A service says what a line means (`importer.LineImporter`); everything else is here. What is found wrong names its file, its
line and its field, and nothing is written.
"""
