-- The steps of a funnel by the source of the first one.
SELECT source,
  count(DISTINCT CASE WHEN name = 'Product Viewed' THEN profile_id END) AS viewed,
  count(DISTINCT CASE WHEN name = 'Product Added' THEN profile_id END) AS added,
  count(DISTINCT CASE WHEN name = 'Order Completed' THEN profile_id END) AS ordered
FROM events WHERE type = 'track' GROUP BY source ORDER BY source
