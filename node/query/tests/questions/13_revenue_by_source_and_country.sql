-- Who brings revenue, and where.
SELECT e.source, p.country, sum(e.revenue) AS revenue, count(*) AS orders
FROM events e JOIN profiles p ON p.profile_id = e.profile_id
WHERE e.name = 'Order Completed' GROUP BY e.source, p.country ORDER BY e.source, p.country
