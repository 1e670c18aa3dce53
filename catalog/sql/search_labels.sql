-- Features whose label has all the words: whole words before parts of words, then the stronger labels.
select
    dictionary_id,
    activation_set_id,
    feature_index,
    label,
    explainer,
    score,
    ci_low,
    ci_high,
    chance,
    above_chance,
    density,
    list_sum(list_transform($words::varchar[], lambda w: list_contains(
        regexp_split_to_array(label_lower, '[^\p{L}\p{N}_]+'), w)::integer)) as n_whole_words
from feature_cards
where
    label is not null
    and ($dictionary_id::varchar is null or dictionary_id = $dictionary_id::varchar)
    and contains(label_lower, list_extract($words::varchar[], 1))
    and list_bool_and(list_transform($words::varchar[], lambda w: contains(label_lower, w)))
order by n_whole_words desc, ci_low desc nulls last, dictionary_id, feature_index
limit $limit
