-- Matching results for two features, in both directions.
select method, score, rank, mutual, margin, n, p_value, q_value, verdict, activation_sets, ci_low, ci_high,
    n_documents, same_above, floor_score
from matches
where
    (dictionary_a = $dictionary_a and feature_a = $feature_a and dictionary_b = $dictionary_b and feature_b = $feature_b)
    or (dictionary_a = $dictionary_b and feature_a = $feature_b and dictionary_b = $dictionary_a and feature_b = $feature_a)
order by method
