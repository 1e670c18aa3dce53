-- The values of document labels to which a feature is related on one activation set: those with q of at most 0.05 first,
-- the strongest of them first.
select label, value, auroc, mi_ratio, n_documents, n_value, n_firing, n_both, p_value, q_value
from associations
where dictionary_id = $dictionary_id and activation_set_id = $activation_set_id and feature_index = $feature_index
order by q_value <= 0.05 desc, abs(auroc - 0.5) desc, label, value
limit $limit
