-- One feature: its card, histogram, logits and neighbours, on the newest activation set or a given one.
select
    c.*,
    f.quantiles,
    f.histogram,
    f.top_logits,
    f.bottom_logits,
    f.nearest_by_decoder,
    f.nearest_by_coactivation
from feature_cards as c
join features as f using (dictionary_id, activation_set_id, feature_index)
where
    c.dictionary_id = $dictionary_id
    and c.feature_index = $feature_index
    and ($activation_set_id::varchar is null or c.activation_set_id = $activation_set_id::varchar)
order by c.n_tokens desc, c.activation_set_id
