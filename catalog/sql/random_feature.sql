-- One firing feature, selected by a number: of a dictionary, else of all current dictionaries.
select f.dictionary_id, f.feature_index
from feature_cards as f
where
    f.status <> 'unseen'
    and case
        when $dictionary_id::varchar is null then f.dictionary_id not in (
            select d.dictionary_id from dictionaries as d join current_aliases as a using (alias)
            where a.dictionary_id <> d.dictionary_id
        )
        else f.dictionary_id = $dictionary_id::varchar
    end
order by hash(f.dictionary_id, f.feature_index, $seed::bigint)
limit 1
