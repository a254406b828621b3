-- From view to order within a day.
WITH viewed AS (
  SELECT profile_id, min(timestamp) AS seen_at FROM events WHERE name = 'Product Viewed' GROUP BY profile_id
), added AS (
  SELECT v.profile_id, min(e.timestamp) AS seen_at FROM viewed v JOIN events e
    ON e.profile_id = v.profile_id AND e.name = 'Product Added' AND e.timestamp > v.seen_at AND e.timestamp <= v.seen_at + INTERVAL '1' DAY
  GROUP BY v.profile_id
), ordered AS (
  SELECT a.profile_id FROM added a JOIN events e
    ON e.profile_id = a.profile_id AND e.name = 'Order Completed' AND e.timestamp > a.seen_at AND e.timestamp <= a.seen_at + INTERVAL '1' DAY
  GROUP BY a.profile_id
)
SELECT (SELECT count(*) FROM viewed) AS viewed, (SELECT count(*) FROM added) AS added, (SELECT count(*) FROM ordered) AS ordered
