-- The three who paid most in each country.
SELECT country, place, profile_id, revenue FROM (
  SELECT country, profile_id, revenue, row_number() OVER (PARTITION BY country ORDER BY revenue DESC, profile_id) AS place
  FROM profiles
) ranked WHERE place <= 3 ORDER BY country, place
