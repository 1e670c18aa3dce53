-- The strongest mutual matches between two dictionaries, with labels of both sides.
with pairs as (
    select feature_a, feature_b, method, score, margin, q_value, verdict, ci_low, ci_high from matches
    where mutual and dictionary_a = $dictionary_a and dictionary_b = $dictionary_b
    union all
    select feature_b, feature_a, method, score, margin, q_value, verdict, ci_low, ci_high from matches
    where mutual and dictionary_a = $dictionary_b and dictionary_b = $dictionary_a
),
labels as (
    select dictionary_id, feature_index, max_by(label, coalesce(ci_low, -1)) as label
    from feature_cards
    where dictionary_id in ($dictionary_a, $dictionary_b)
    group by dictionary_id, feature_index
)
select p.*, a.label as label_a, b.label as label_b
from pairs as p
left join labels as a on a.dictionary_id = $dictionary_a and a.feature_index = p.feature_a
left join labels as b on b.dictionary_id = $dictionary_b and b.feature_index = p.feature_b
qualify row_number() over (partition by p.feature_a, p.feature_b, p.method order by p.q_value nulls last) = 1
order by p.q_value nulls last, p.score desc
limit 100
