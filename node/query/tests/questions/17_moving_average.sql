-- Orders a day, and the average of seven days.
WITH days AS (
  SELECT date_trunc('day', timestamp) AS day, count(*) AS orders FROM events WHERE name = 'Order Completed' GROUP BY 1
)
SELECT day, orders, avg(orders) OVER (ORDER BY day ROWS BETWEEN 6 PRECEDING AND CURRENT ROW) AS average FROM days ORDER BY day
