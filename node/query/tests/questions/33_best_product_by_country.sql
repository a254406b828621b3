-- The product that is bought most in each country.
WITH counted AS (
  SELECT p.country, e.product, count(*) AS orders FROM events e JOIN profiles p ON p.profile_id = e.profile_id
  WHERE e.name = 'Order Completed' GROUP BY p.country, e.product
)
SELECT country, product, orders FROM (
  SELECT country, product, orders, rank() OVER (PARTITION BY country ORDER BY orders DESC, product) AS place FROM counted
) ranked WHERE place = 1 ORDER BY country
