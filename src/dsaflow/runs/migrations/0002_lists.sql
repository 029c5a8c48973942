-- What lists are sorted by, newest first.
CREATE INDEX groups_by_time ON mosaic_groups (updated_s, group_id);
CREATE INDEX products_by_time ON products (updated_s, product_id);
CREATE INDEX quarantine_by_time ON quarantine (last_seen_s);
