-- Visits: events with less than half an hour between them.
WITH marked AS (
  SELECT profile_id, timestamp, message_id,
    extract(epoch FROM timestamp) - lag(extract(epoch FROM timestamp)) OVER (PARTITION BY profile_id ORDER BY timestamp, message_id) AS waited
  FROM events
), numbered AS (
  SELECT profile_id, sum(CASE WHEN waited < 1800 THEN 0 ELSE 1 END) OVER (PARTITION BY profile_id ORDER BY timestamp, message_id) AS visit
  FROM marked
)
SELECT events, count(*) AS visits FROM (SELECT profile_id, visit, count(*) AS events FROM numbered GROUP BY profile_id, visit) counted
GROUP BY events ORDER BY events
