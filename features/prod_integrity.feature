Feature: Prod's integrity
  Prod is read, and never written. Preflight asks for it before anything else; these scenarios show its findings.
  Where the settings know no prod, as in a Job where an agent runs, those that look at prod (@prod) are skipped.

  Scenario: Nothing stands in the way of a rehearsal
    Then no invariant fails

  @prod
  Scenario Outline: Prod is only read
    Then the invariant "<invariant>" holds for prod

    Examples:
      | invariant            |
      | session is read-only |
      | login cannot write   |
      | connection is direct |

  Scenario Outline: A sandbox is no way to prod
    Then the invariant "<invariant>" holds for every sandbox

    Examples:
      | invariant                                         |
      | is neither prod nor another sandbox               |
      | is adopted, or empty                              |
      | login is a member of the role                     |
      | role and login have no administrator's attributes |
      | role and login reach no dangerous role            |
      | role owns this database and no other              |

  @prod
  Scenario: Nor does a sandbox's role reach prod
    Then the invariant "prod is out of reach" holds for every sandbox

  Scenario: The sandbox reaches nobody outside
    Then the sandbox is quarantined
    And the sandbox has 1 row in "llx_const" where:
      | name   | MAIN_DISABLE_ALL_MAILS |
      | entity | 0                      |
      | value  | 1                      |
    And the sandbox has no row in "llx_cronjob" where:
      | status | 1 |

  @prod
  Scenario: A key of prod's opens nothing
    Then the sandbox has no row in "llx_user" where:
      | api_key | prod-key-of-admin-5d80a4 |
    But prod has 1 row in "llx_user" where:
      | api_key | prod-key-of-admin-5d80a4 |

  @prod
  Scenario: What the agent changes, prod keeps
    When the agent calls PUT "thirdparties/2" with:
      | name | L'Atelier de Nolwenn |
    Then the answer is 200
    And the sandbox has no row in "llx_societe" where:
      | nom | L'Atelier d'Élodie |
    But prod has 1 row in "llx_societe" where:
      | nom | L'Atelier d'Élodie |
