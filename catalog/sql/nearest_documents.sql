-- The three documents of a corpus whose ids are most like a name.
select document_id
from documents
where corpus_id = $corpus_id
order by jaro_winkler_similarity(document_id, $name) desc, document_id
limit 3
