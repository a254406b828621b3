-- Whose items were kept back, and what these people bring.
SELECT q.source, q.reason, count(*) AS items, count(DISTINCT p.profile_id) AS people, sum(p.revenue) AS revenue
FROM quarantine q
LEFT JOIN identifiers i ON i.namespace = 'user_id' AND i.value = (q.payload->>'userId')
LEFT JOIN profiles p ON p.profile_id = i.profile_id
GROUP BY q.source, q.reason ORDER BY q.source, q.reason
