CREATE TRIGGER job_counted AFTER INSERT ON job BEGIN
    INSERT INTO job_count_delta (kind, monitored_by, day, account, region, resource_type, state, category, unit_path,
                                 change)
    VALUES (NEW.kind, COALESCE(NEW.monitored_by, ''), NEW.created_at / 86400000000, NEW.account, NEW.region,
            NEW.resource_type, NEW.state, COALESCE(NEW.message_category, ''), NEW.unit_path, 1);
END;
-- next
CREATE TRIGGER job_uncounted AFTER DELETE ON job BEGIN
    INSERT INTO job_count_delta (kind, monitored_by, day, account, region, resource_type, state, category, unit_path,
                                 change)
    VALUES (OLD.kind, COALESCE(OLD.monitored_by, ''), OLD.created_at / 86400000000, OLD.account, OLD.region,
            OLD.resource_type, OLD.state, COALESCE(OLD.message_category, ''), OLD.unit_path, -1);
END;
-- next
CREATE TRIGGER job_recounted
AFTER UPDATE OF kind, monitored_by, created_at, account, region, resource_type, state, message_category, unit_path
ON job
WHEN (OLD.kind, OLD.monitored_by, OLD.created_at, OLD.account, OLD.region, OLD.resource_type, OLD.state,
      OLD.message_category, OLD.unit_path)
     IS NOT
     (NEW.kind, NEW.monitored_by, NEW.created_at, NEW.account, NEW.region, NEW.resource_type, NEW.state,
      NEW.message_category, NEW.unit_path)
BEGIN
    INSERT INTO job_count_delta (kind, monitored_by, day, account, region, resource_type, state, category, unit_path,
                                 change)
    VALUES (OLD.kind, COALESCE(OLD.monitored_by, ''), OLD.created_at / 86400000000, OLD.account, OLD.region,
            OLD.resource_type, OLD.state, COALESCE(OLD.message_category, ''), OLD.unit_path, -1),
           (NEW.kind, COALESCE(NEW.monitored_by, ''), NEW.created_at / 86400000000, NEW.account, NEW.region,
            NEW.resource_type, NEW.state, COALESCE(NEW.message_category, ''), NEW.unit_path, 1);
END;
