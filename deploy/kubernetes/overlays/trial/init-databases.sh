#!/usr/bin/env bash
# Run by the PostgreSQL image once, when its data folder is empty: for each service a database, the role that owns it and
# migrates it, and the role without DDL that the service runs as. Running it again changes nothing, or hands a database of an
# older version, which its service owned, over to its owner.
# Without its executable bit it is sourced, with the options of the image's own script.
set -e

for service in incident approval; do
  # psql reads the passwords itself: an argument would be visible in the process list.
  psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --set service="$service" --set owner="${service}_owner" \
    --set secrets="${SECRETS_DIR:-/run/secrets}/" \
    --host "${PGHOST:-/var/run/postgresql}" --username postgres --dbname postgres <<'SQL'
\set file :secrets :service _password
\set password `cat :file`
\set file :secrets :owner _password
\set owner_password `cat :file`
SELECT format('CREATE ROLE %I LOGIN', role) FROM unnest(ARRAY[:'service', :'owner']) AS role
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role) \gexec
ALTER ROLE :"service" PASSWORD :'password';
ALTER ROLE :"owner" PASSWORD :'owner_password';
SELECT format('CREATE DATABASE %I', :'service')
WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = :'service') \gexec
ALTER DATABASE :"service" OWNER TO :"owner";
-- By default every role may connect to every database.
REVOKE ALL ON DATABASE :"service" FROM PUBLIC;
GRANT CONNECT, TEMPORARY ON DATABASE :"service" TO :"service";
\connect :"service"
REASSIGN OWNED BY :"service" TO :"owner";
SQL
done

psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --host "${PGHOST:-/var/run/postgresql}" --username postgres --dbname postgres \
  --command 'REVOKE ALL ON DATABASE postgres, template1 FROM PUBLIC'
