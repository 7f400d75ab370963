SELECT count(*) FROM stratos_enrollment
