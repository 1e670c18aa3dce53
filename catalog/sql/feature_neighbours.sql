-- The near features of one, with how alike they point and fire, and what chance would give; nearest direction first.
select
    neighbour_index, cosine, cosine_null, jaccard, pearson, n_both, n_tokens, geometry, context_lift, document_lift,
    document_q, confounded, n_documents
from feature_neighbours
where
    dictionary_id = $dictionary_id
    and activation_set_id = $activation_set_id
    and feature_index = $feature_index
order by cosine desc nulls last, neighbour_index
limit 1000
