-- Revenue by month, with its running sum.
SELECT month, revenue, sum(revenue) OVER (ORDER BY month) AS so_far FROM (
  SELECT date_trunc('month', timestamp) AS month, sum(revenue) AS revenue
  FROM events WHERE name = 'Order Completed' GROUP BY 1
) months ORDER BY month
