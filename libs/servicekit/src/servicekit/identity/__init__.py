"""Who is calling: identities and their canonical form, credentials and how they are verified, roles."""
