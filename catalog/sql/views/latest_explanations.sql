-- The newest attempt of every explainer and model on every feature, with its score if there is one. The newest is the
-- one of the latest version of the catalogue, independent of clocks. is_stale: a document was removed from its evidence
-- since its stage last ran, which explains the feature again.
select
    e.dictionary_id,
    e.activation_set_id,
    e.feature_index,
    e.explainer,
    e.model,
    e.explanation_id,
    e.text,
    e.predicate,
    e.status,
    e.error,
    e.call_id,
    e.created_at,
    e.position,
    e.token_shares,
    s.scorer,
    s.judge,
    s.variant,
    s.score,
    s.ci_low,
    s.ci_high,
    s.chance,
    s.above_chance,
    s.n_judged,
    s.answered_share,
    e.prompt_digest,
    e.fingerprint,
    coalesce(e.stale_in > c.place, false) as is_stale
from explanations as e
left join explanation_scores as s using (dictionary_id, activation_set_id, feature_index, explanation_id)
left join commit_order as c on c.table_name = 'explanations' and c.slice = e.slice
qualify row_number() over (
    partition by e.dictionary_id, e.activation_set_id, e.feature_index, e.explainer, e.model
    order by c.place desc nulls last, e.created_at desc, e.explanation_id
) = 1
