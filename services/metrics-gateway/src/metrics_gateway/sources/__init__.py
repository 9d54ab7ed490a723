"""The services that the stats are read from: requests, deadlines, validation of responses."""
