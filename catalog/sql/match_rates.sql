-- Number of features of one dictionary called the same as one of another, and the number that random directions reach.
select
    method, dictionary_a, dictionary_b, n_features, n_mutual, n_same, share_same, floor_share_same, median_score,
    floor_median_score, same_above, n_documents
from match_rates
where
    (dictionary_a = $dictionary_a and dictionary_b = $dictionary_b)
    or (dictionary_a = $dictionary_b and dictionary_b = $dictionary_a)
order by method, dictionary_a <> $dictionary_a
limit 100
