-- The record of a document that was forgotten, for the first of some corpora.
select * exclude (fingerprint, slice, subject)
from forgotten_documents
where list_contains($corpora, corpus_id) and document_id = $document_id
order by forgotten_at
limit 1
