#!/usr/bin/env bash
# Run by the PostgreSQL image once, when its data folder is empty: a role and a database for each service.
# Without its executable bit it is sourced, with the options of the image's own script.
set -e

for service in incident approval; do
  # psql reads the password itself: an argument would be visible in the process list.
  psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --set service="$service" \
    --host /var/run/postgresql --username postgres --dbname postgres <<'SQL'
\set file /run/secrets/ :service _password
\set password `cat :file`
CREATE ROLE :"service" LOGIN PASSWORD :'password';
CREATE DATABASE :"service" OWNER :"service";
-- By default every role may connect to every database.
REVOKE ALL ON DATABASE :"service" FROM PUBLIC;
SQL
done

psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --host /var/run/postgresql --username postgres --dbname postgres \
  --command 'REVOKE ALL ON DATABASE postgres, template1 FROM PUBLIC'
