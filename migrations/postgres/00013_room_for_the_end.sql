-- +goose Up

-- Every watch and every delivery is changed once, when it ends, which enters it a second
-- time into each of these. Pages that were filled have no room for that: each is searched
-- for what may go, rewritten and split, which was a third of what ending a watch
-- cost here. Half filled, they come to what they came to before by the splits. This says
-- how new pages are filled; those that are there stay as they are.
ALTER INDEX watches_pkey SET (fillfactor = 50);
ALTER INDEX watches_list SET (fillfactor = 50);
ALTER INDEX watches_status SET (fillfactor = 50);
ALTER INDEX watches_operation SET (fillfactor = 50);
ALTER INDEX watches_account SET (fillfactor = 50);
ALTER INDEX watches_of_operation SET (fillfactor = 50);
ALTER INDEX deliveries_pkey SET (fillfactor = 50);
ALTER INDEX deliveries_list SET (fillfactor = 50);
ALTER INDEX deliveries_status SET (fillfactor = 50);
ALTER INDEX deliveries_destination SET (fillfactor = 50);
ALTER INDEX deliveries_event SET (fillfactor = 50);
