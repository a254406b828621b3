-- Who comes back in the weeks after the first visit.
WITH visits AS (
  SELECT DISTINCT profile_id, date_trunc('week', timestamp) AS week FROM events WHERE type = 'track'
), firsts AS (
  SELECT profile_id, min(week) AS first_week FROM visits GROUP BY profile_id
)
SELECT f.first_week, v.week, count(*) AS people
FROM visits v JOIN firsts f USING (profile_id) GROUP BY 1, 2 ORDER BY 1, 2
