-- The newest explanation of every explainer of one feature, best first.
select *
from latest_explanations
where dictionary_id = $dictionary_id and feature_index = $feature_index
order by ci_low desc nulls last, created_at desc
