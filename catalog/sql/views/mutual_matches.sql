-- Pairs of features that are each other's best partner, once per pair and method, with both labels.
with labels as (
    select dictionary_id, feature_index, any_value(label) as label
    from feature_cards
    group by dictionary_id, feature_index
)
select
    m.dictionary_a,
    m.feature_a,
    a.label as label_a,
    m.dictionary_b,
    m.feature_b,
    b.label as label_b,
    m.method,
    m.activation_sets,
    m.score,
    m.margin,
    m.n,
    m.p_value,
    m.q_value,
    m.verdict,
    m.ci_low,
    m.ci_high,
    m.n_documents,
    m.same_above,
    m.floor_score,
    m.floor_same
from matches as m
left join labels as a on a.dictionary_id = m.dictionary_a and a.feature_index = m.feature_a
left join labels as b on b.dictionary_id = m.dictionary_b and b.feature_index = m.feature_b
where m.mutual
