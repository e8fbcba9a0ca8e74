-- The journal could not be written for a while, and can again.
INSERT INTO event_kinds (code, name) VALUES (70, 'journal.recovered');
