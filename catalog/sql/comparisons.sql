-- Comparisons of what features do on two sets or on two groups of documents: how many features changed, how alike both
-- sides are, and the reconstruction on each set.
with quality as (
    select dictionary_id, activation_set_id, max(value) filter (where metric = 'fvu') as fvu, max(value) filter (where metric = 'l0') as l0
    from dictionary_metrics
    where split = 'eval' and variant = '' and metric in ('fvu', 'l0')
    group by dictionary_id, activation_set_id
),
compared as (
    select
        dictionary_id, set_a, set_b, comparison, kind,
        count(*) as n_features,
        count_if(q_value <= 0.05)::bigint as n_changed,
        case when count(is_silent) > 0 then count_if(is_silent)::bigint end as n_silent,
        count_if(revived)::bigint as n_revived,
        count_if(not revived)::bigint as n_gone,
        median(pearson) as median_pearson,
        median(jaccard) as median_jaccard,
        any_value(n_documents_a) as n_documents_a,
        any_value(n_documents_b) as n_documents_b
    from feature_shifts
    group by dictionary_id, set_a, set_b, comparison, kind
)
select
    c.*,
    a.model_id as model_a, a.corpus_id as corpus_a, qa.fvu as fvu_a, qa.l0 as l0_a,
    b.model_id as model_b, b.corpus_id as corpus_b, qb.fvu as fvu_b, qb.l0 as l0_b
from compared as c
left join activation_sets as a on a.activation_set_id = c.set_a
left join activation_sets as b on b.activation_set_id = c.set_b
left join quality as qa on qa.dictionary_id = c.dictionary_id and qa.activation_set_id = c.set_a
left join quality as qb on qb.dictionary_id = c.dictionary_id and qb.activation_set_id = c.set_b
order by c.kind, c.dictionary_id, c.comparison, c.set_a, c.set_b
limit 500
