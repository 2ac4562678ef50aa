-- How many objects of "taken" (taken.sql) are locked: a column is locked with its table.
SELECT count(*) FROM (SELECT DISTINCT classid, objid FROM taken) AS locked
