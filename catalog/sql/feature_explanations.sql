-- Every explanation of a feature, newest first, with its cost, on all activation sets or on one; is_label marks the one
-- on the card of its set.
select
    e.explanation_id, e.explainer, e.model, e.prompt_digest, e.text, e.status, e.error, e.created_at, e.fingerprint,
    e.position, e.token_shares, coalesce(e.stale_in > o.place, false) as is_stale,
    e.explanation_id in (select f.explanation_id from feature_observations as f
        where f.dictionary_id = $dictionary_id and f.feature_index = $feature_index) as is_label,
    c.cost_usd, c.prompt_tokens, c.completion_tokens, s.run_id, s.code_version
from explanations as e
left join llm_calls as c using (call_id)
left join commit_order as o on o.table_name = 'explanations' and o.slice = e.slice
left join (select fingerprint, max_by(run_id, attempt) as run_id, max_by(code_version, attempt) as code_version
    from stage_runs where state = 'committed' group by fingerprint) as s on s.fingerprint = e.fingerprint
where e.dictionary_id = $dictionary_id and e.feature_index = $feature_index
    and ($activation_set_id::varchar is null or e.activation_set_id = $activation_set_id::varchar)
order by o.place desc nulls last, e.created_at desc, e.explanation_id
limit 200
