-- Labels that hold one of some words, those with most of the words first, each with the best feature that has it.
with found as (
    select f.dictionary_id, f.feature_index, f.label, f.ci_low,
        len(list_intersect(list_distinct(regexp_extract_all(f.label_lower, '[\p{L}\p{N}_]{2,}')), $words::varchar[])) as n_words
    from feature_cards as f
    where f.label is not null and case
        when $dictionary_id::varchar is null then f.dictionary_id not in (
            select d.dictionary_id from dictionaries as d join current_aliases as a using (alias)
            where a.dictionary_id <> d.dictionary_id
        )
        else f.dictionary_id = $dictionary_id::varchar
    end
)
select dictionary_id, feature_index, label, n_words
from found
where n_words > 0
qualify row_number() over (partition by label order by ci_low desc nulls last, dictionary_id, feature_index) = 1
order by n_words desc, ci_low desc nulls last, dictionary_id, feature_index
limit 200
