-- The ids of all models of the catalogue, in alphabetical order. No parameters.
SELECT model_id FROM models ORDER BY model_id
