"""What the operator's commands print: tables for people, JSON for programs."""
