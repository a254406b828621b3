-- The middle of all orders, and the outer ones.
SELECT count(*) AS orders, min(revenue) AS least, max(revenue) AS most, median(revenue) AS middle
FROM events WHERE name = 'Order Completed'
