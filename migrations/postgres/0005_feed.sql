-- Nothing: Postgres tests whether a kind is in a list at little cost. (On SQLite this number changes an index.)
SELECT 1;
