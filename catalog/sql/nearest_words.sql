-- Words of labels, and peak tokens, whose spelling is closest to a search without results.
with cards as (
    select label_lower, top_tokens
    from feature_cards as f
    where $dictionary_id::varchar is null or f.dictionary_id = $dictionary_id::varchar
),
spelt as (
    select 'label' as kind, unnest(list_distinct(regexp_extract_all(label_lower, '[\p{L}\p{N}_]{2,}'))) as word
    from cards
    where label_lower is not null
    union all
    select 'token', unnest(list_distinct(list_transform(top_tokens, lambda t: lower(trim(t))))) from cards
),
counted as (
    select kind, word, count(*) as n_features from spelt where length(word) between 1 and 40 group by kind, word
),
wanted as (select unnest($words::varchar[]) as searched)
select kind, word, n_features, max(jaro_winkler_similarity(word, searched)) as similarity
from counted
cross join wanted
group by kind, word, n_features
having max(jaro_winkler_similarity(word, searched)) >= 0.75
qualify row_number() over (partition by kind order by similarity desc, n_features desc, word) <= 8
order by kind, similarity desc, n_features desc, word
limit 16
