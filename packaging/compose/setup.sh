#!/bin/sh
# Makes the secrets of compose.yaml: a password for PostgreSQL, and the URL that
# holds it. Run once; it does not overwrite.
set -eu
cd "$(dirname "$0")"
umask 077
if [ -e postgres-password ]; then
	echo "postgres-password is there: left as it is" >&2
else
	head -c 24 /dev/urandom | od -An -vtx1 | tr -d ' \n' > postgres-password
fi
rm -f store-url # of the last time: it cannot be written
printf 'postgres://muster:%s@postgres/muster?sslmode=disable\n' "$(cat postgres-password)" > store-url
# The containers' users are others than yours: a secret's file is mounted as it is.
chmod 0444 postgres-password store-url
echo "docker compose up --build -d" >&2
