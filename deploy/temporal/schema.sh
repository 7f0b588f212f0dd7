#!/bin/sh
# Makes Temporal's two databases and brings their schemas up to the release of this image. Safe to repeat: a database
# that exists is left alone, and only the steps that it lacks are applied. So a newer tag is also the way to upgrade.
#
# Where and as whom is in SQL_PLUGIN, SQL_HOST, SQL_PORT, SQL_USER and SQL_PASSWORD, which the tool reads by itself.
set -eu

bring_up() { # database, folder
  temporal-sql-tool --db "$1" create
  temporal-sql-tool --db "$1" setup-schema -v 0.0
  temporal-sql-tool --db "$1" update-schema -d "/etc/temporal/schema/postgresql/v12/$2/versioned"
}

bring_up temporal temporal
bring_up temporal_visibility visibility
