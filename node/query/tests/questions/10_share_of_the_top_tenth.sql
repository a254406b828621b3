-- What part of all revenue the best tenth brings.
WITH ranked AS (
  SELECT revenue, ntile(10) OVER (ORDER BY revenue DESC, profile_id) AS tenth FROM profiles
)
SELECT tenth, count(*) AS people, sum(revenue) AS revenue FROM ranked GROUP BY tenth ORDER BY tenth
