-- How many names people have.
SELECT names, count(*) AS people FROM (SELECT profile_id, count(*) AS names FROM identifiers GROUP BY profile_id) counted
GROUP BY names ORDER BY names
