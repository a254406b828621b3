-- Orders by the day of the week.
SELECT extract(dow FROM timestamp) AS day, count(*) AS orders, sum(revenue) AS revenue
FROM events WHERE name = 'Order Completed' GROUP BY 1 ORDER BY 1
