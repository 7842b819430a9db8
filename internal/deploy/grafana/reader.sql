-- The login of Grafana's data source: what mooring_reader may, and a password
-- from the environment. Run by psql as a superuser, as often as one likes.
\set ON_ERROR_STOP on
\getenv password GRAFANA_READER_PASSWORD
SET log_min_error_statement = panic; -- a statement that fails would be logged with its password
SET log_statement = none;
SET client_min_messages = warning;
SELECT 'CREATE ROLE mooring_grafana' WHERE to_regrole('mooring_grafana') IS NULL \gexec
ALTER ROLE mooring_grafana LOGIN CONNECTION LIMIT 20 PASSWORD :'password';
GRANT mooring_reader TO mooring_grafana;
ALTER ROLE mooring_grafana SET search_path = mooring, mooring_layout, public;
ALTER ROLE mooring_grafana SET default_transaction_read_only = on;
ALTER ROLE mooring_grafana SET statement_timeout = '30s'; -- a panel, not a report
