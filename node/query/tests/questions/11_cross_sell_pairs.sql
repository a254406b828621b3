-- What is bought by the same people.
WITH bought AS (
  SELECT DISTINCT profile_id, product FROM events WHERE name = 'Order Completed'
)
SELECT a.product AS one, b.product AS other, count(*) AS people
FROM bought a JOIN bought b ON a.profile_id = b.profile_id AND a.product < b.product
GROUP BY 1, 2 ORDER BY people DESC, one, other LIMIT 20
