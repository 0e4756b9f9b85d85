CREATE FUNCTION count_new_jobs() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO job_count_delta (kind, monitored_by, day, account, region, resource_type, state, category, unit_path,
                                 change)
    SELECT kind, COALESCE(monitored_by, ''), created_at / 86400000000, account, region, resource_type, state,
           COALESCE(message_category, ''), unit_path, count(*)
      FROM added GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9;
    RETURN NULL;
END $$;
-- next
CREATE TRIGGER job_counted AFTER INSERT ON job
    REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION count_new_jobs();
-- next
CREATE FUNCTION count_changed_job() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO job_count_delta (kind, monitored_by, day, account, region, resource_type, state, category, unit_path,
                                 change)
    VALUES (OLD.kind, COALESCE(OLD.monitored_by, ''), OLD.created_at / 86400000000, OLD.account, OLD.region,
            OLD.resource_type, OLD.state, COALESCE(OLD.message_category, ''), OLD.unit_path, -1);
    IF TG_OP = 'UPDATE' THEN
        INSERT INTO job_count_delta (kind, monitored_by, day, account, region, resource_type, state, category,
                                     unit_path, change)
        VALUES (NEW.kind, COALESCE(NEW.monitored_by, ''), NEW.created_at / 86400000000, NEW.account, NEW.region,
                NEW.resource_type, NEW.state, COALESCE(NEW.message_category, ''), NEW.unit_path, 1);
    END IF;
    RETURN NULL;
END $$;
-- next
CREATE TRIGGER job_uncounted AFTER DELETE ON job FOR EACH ROW EXECUTE FUNCTION count_changed_job();
-- next
CREATE TRIGGER job_recounted
AFTER UPDATE OF kind, monitored_by, created_at, account, region, resource_type, state, message_category, unit_path
ON job FOR EACH ROW
WHEN ((OLD.kind, OLD.monitored_by, OLD.created_at, OLD.account, OLD.region, OLD.resource_type, OLD.state,
       OLD.message_category, OLD.unit_path)
      IS DISTINCT FROM
      (NEW.kind, NEW.monitored_by, NEW.created_at, NEW.account, NEW.region, NEW.resource_type, NEW.state,
       NEW.message_category, NEW.unit_path))
EXECUTE FUNCTION count_changed_job();
