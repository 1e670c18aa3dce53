-- The newest explanation of every explainer of one feature, in the order of the pipeline.
select *
from latest_explanations
where dictionary_id = $dictionary_id and feature_index = $feature_index
order by position nulls last, created_at desc, explanation_id
