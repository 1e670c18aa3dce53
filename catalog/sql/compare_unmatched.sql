-- Firing features of one dictionary without a mutual match in another, best labelled first.
select f.feature_index, f.label, f.density, f.ci_low
from feature_cards as f
where
    f.dictionary_id = $dictionary_a and f.density > 0
    and not exists (
        select 1 from matches as m
        where m.mutual and (
            (m.dictionary_a = $dictionary_a and m.dictionary_b = $dictionary_b and m.feature_a = f.feature_index)
            or (m.dictionary_b = $dictionary_a and m.dictionary_a = $dictionary_b and m.feature_b = f.feature_index))
    )
order by f.ci_low desc nulls last, f.feature_index
limit 25
