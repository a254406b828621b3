-- Revenue as it stood at the end of a month.
SELECT p.profile_id, sum(e.revenue) AS revenue FROM profiles p JOIN events e ON e.profile_id = p.profile_id
WHERE e.name = 'Order Completed' AND e.timestamp < TIMESTAMPTZ '2026-03-01 00:00:00+00'
GROUP BY p.profile_id HAVING sum(e.revenue) > 500 ORDER BY revenue DESC, p.profile_id
