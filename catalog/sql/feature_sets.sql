-- The activation sets on which a feature was looked at, its home first: model, hookpoint, corpus and firing on each.
-- Of a corpus that grows the newest set comes first.
select
    f.activation_set_id,
    f.is_home,
    f.set_model_id,
    f.set_hookpoint,
    f.corpus_id,
    c.source as corpus_source,
    c.n_generations,
    c.n_documents,
    f.status,
    f.density,
    f.max_activation,
    f.label,
    f.score,
    f.ci_low,
    f.ci_high,
    f.chance,
    f.above_chance,
    f.n_judged
from feature_observations as f
left join corpora as c using (corpus_id)
where f.dictionary_id = $dictionary_id and f.feature_index = $feature_index
order by f.is_home desc, f.set_model_id, c.n_generations desc nulls last, f.corpus_id, f.activation_set_id
limit 200
