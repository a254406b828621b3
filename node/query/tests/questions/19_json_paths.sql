-- What lies deep in an event.
SELECT context->'context'->'page'->>'path' AS path, count(*) AS events, count(DISTINCT profile_id) AS people
FROM events GROUP BY 1 ORDER BY 1
